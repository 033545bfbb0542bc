"""The gRPC services: requests in, core calls, responses out.

address_spaces   AddressSpaces: one method per RPC
diagnostics      Diagnostics: audit, verify, what the server knows of itself
streams          StreamVmas, RepeatFork
imports          spaces from the text of /proc/PID/maps and smaps
idempotency      request ids: a retried mutation happens once
requests         what requests say: labels, files, strategies, deadlines, page tokens
replies          what responses say: conversions from the core's values
state            what all of them share in one worker
"""
