#!/bin/sh
# -acm-export-private-key adds ARN_private_key, where a certificate's key may leave.
exec confd -watch -interval 2 -backend acm -confdir .
