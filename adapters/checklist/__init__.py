"""The frontend's checklist as a program: it checks any server that claims the contract, and reports which
rows hold, which fail, and the exchanges of those that fail.

This package is a client only: it shares no code with the server in this distribution.
"""
