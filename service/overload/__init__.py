"""May this worker take one more request, or has it more to do than it can?"""
