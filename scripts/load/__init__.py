"""``make load``: does the fleet hold its limits, its promises and its speed?"""
