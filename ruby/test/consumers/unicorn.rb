# SPDX-License-Identifier: MIT
# frozen_string_literal: true

worker_processes 4
listen "127.0.0.1:0", backlog: 128
