"""From a configuration to components: each function here makes one part of the reference app.

`Parts` holds all that one gateway is made of; how it is put together is `app.py`'s to say.
"""
