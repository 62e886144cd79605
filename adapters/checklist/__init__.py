"""The frontend's checklist as a program: run against any server that claims the contract, it reports what
holds, what does not, and the exchange of what failed.

It is a client and nothing else: it shares no code with the server in this distribution.
"""
