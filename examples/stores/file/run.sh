#!/bin/sh
exec confd -watch -backend file -file volume -confdir .
