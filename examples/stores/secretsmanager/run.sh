#!/bin/sh
# Secrets Manager tells of no changes: it is asked every 2 seconds which secrets
# have a new version, 10 without -interval.
exec confd -watch -interval 2 -backend secretsmanager -confdir .
