"""The controllers that turn workloads into pods, and pods into scheduled ones."""
