"""Services, from the API's objects to flows: who is called by what, which endpoints there are for
whom, and what of it is the same for all nodes, for those of a zone, or for one.
"""
