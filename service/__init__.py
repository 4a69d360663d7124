"""Tollgate sells runs of AI flows over MIP-003, with limits that hold across the whole fleet.

The layers, top to bottom; each imports only what stands below it:

    cli > server > app > wiring | api > jobs > flows | payments > runners
        > admission | breaker | cache > mip > store | database | health
        > deadline > logs | metrics > tasks > settings > errors
"""

__version__ = "0.1.0"
