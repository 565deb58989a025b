#!/bin/sh
exec confd -watch -backend consul -node "${CONSUL:-127.0.0.1:8500}" -confdir .
