#!/bin/sh
# The Parameter Store tells of no changes: it is read every 2 seconds, 10 without
# -interval.
exec confd -watch -interval 2 -backend ssm -confdir .
