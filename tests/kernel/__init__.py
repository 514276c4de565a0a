"""The integration tests under Debian's stock kernel, with Open vSwitch's kernel datapath."""
