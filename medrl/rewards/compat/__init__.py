"""Other projects' graders, defects and all, to compare published figures.

Not rewards to train with: most of them guess, or read text outside the answer.
"""
