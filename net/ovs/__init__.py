"""Networks of kind `ovs`: TAPs as ports of an Open vSwitch bridge that the operator made. `database` is the only ovsdbapp."""
