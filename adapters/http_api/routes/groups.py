"""Groups and their members; who may change what is in `messaging_core.rights`."""

from adapters.http_api.endpoints import API, Cost, Endpoint, Limit, Per, Reads, Writes
from adapters.http_api.views import (
    AddedMembersJson,
    ChatViewJson,
    MemberPageJson,
    MemberViewJson,
    added_members_json,
    chat_json,
    member_json,
    member_page_json,
)
from messaging_core import operations
from messaging_core.commands import (
    AddMembers,
    ChangeRole,
    DeleteGroup,
    ListMembers,
    RemoveMember,
    UpdateGroup,
)
from messaging_core.errors import (
    AlreadyAMember,
    ChatNotFound,
    IdempotencyKeyReused,
    InsufficientRole,
    LastOwner,
    MemberNotFound,
    NotAGroup,
    NotAParticipant,
)

REFUSALS = (ChatNotFound, NotAParticipant, NotAGroup, InsufficientRole, IdempotencyKeyReused)
"""What every change of a group may be refused with."""
CHANGES = (Limit("message_rate", Per.USER, (Cost.DELIVERIES,)),)
"""Every member receives the event of a change, as they receive a message."""

ENDPOINTS = (
    Endpoint(
        method="PATCH",
        path=f"{API}/chats/{{chat_id}}",
        summary="Change a group's title, avatar or history; omitted fields stay, null removes the avatar",
        command=UpdateGroup,
        does=Writes(operations.update_group, chat_json),
        response=ChatViewJson,
        refusals=REFUSALS,
        limits=CHANGES,
    ),
    Endpoint(
        method="DELETE",
        path=f"{API}/chats/{{chat_id}}",
        summary="Delete a group for everybody",
        command=DeleteGroup,
        does=Writes(operations.delete_group),
        status=204,
        response=None,
        refusals=REFUSALS,
        limits=CHANGES,
    ),
    Endpoint(
        method="GET",
        path=f"{API}/chats/{{chat_id}}/members",
        summary="A chat's members with their roles, in the order in which they joined, in pages",
        command=ListMembers,
        does=Reads(operations.list_members, member_page_json),
        response=MemberPageJson,
        refusals=(ChatNotFound, NotAParticipant),
    ),
    Endpoint(
        method="POST",
        path=f"{API}/chats/{{chat_id}}/members",
        summary="Add a person to a group, or several: all of them or none",
        command=AddMembers,
        does=Writes(operations.add_members, added_members_json, operations.members_added),
        status=201,
        response=AddedMembersJson,
        refusals=(*REFUSALS, AlreadyAMember),
        limits=(
            Limit("group_people_rate", Per.USER, (Cost.MEMBERS,)),
            Limit("group_people_address_rate", Per.ADDRESS, (Cost.MEMBERS,)),
            Limit("request_rate", Per.USER, (Cost.MEMBERS, Cost.RESPONSE)),
            *CHANGES,
        ),
    ),
    Endpoint(
        method="PATCH",
        path=f"{API}/chats/{{chat_id}}/members/{{user_id}}",
        summary="Give a member another role, or take a lower one myself",
        command=ChangeRole,
        does=Writes(operations.change_role, member_json, operations.member_changed),
        response=MemberViewJson,
        refusals=(*REFUSALS, MemberNotFound, LastOwner),
        limits=CHANGES,
    ),
    Endpoint(
        method="DELETE",
        path=f"{API}/chats/{{chat_id}}/members/{{user_id}}",
        summary="Remove a member, or leave: with my own id",
        command=RemoveMember,
        does=Writes(operations.remove_member),
        status=204,
        response=None,
        refusals=(*REFUSALS, MemberNotFound),
        limits=CHANGES,
    ),
)
