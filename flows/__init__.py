"""Flows as values: tables, registers, what each object becomes, a simulator."""
