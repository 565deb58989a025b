#!/bin/sh
# On an EC2 instance, with its tags allowed in its metadata. They are read every 2
# seconds, 10 without -interval.
exec confd -watch -interval 2 -backend imds -confdir .
