"""An integer network, and what is known of it, to one self-contained page.

``gather`` collects the facts as plain data, ``charts`` draws them, ``page`` puts them together; the
last two need the optional extra ``nupes[report]``.
"""
