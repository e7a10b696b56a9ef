"""Mutation testing: small faults are planted one at a time, and the tests should notice each of them.

The faults are those of mutmut (its operators on libcst's trees). mutmut's own runner is not used: it plants faults by
adding a method for each of them to a class, which tests that read the names and signatures of a class take for the
project's own, and it leaves out tables of a module and functions with a decorator, where activations and losses live.
Here every fault is planted alone, in the source of one module, in a forked process that imports the project afresh and
runs only the tests that execute its line.
"""
