# SPDX-License-Identifier: MIT
# frozen_string_literal: true

threads 16, 16
bind "tcp://127.0.0.1:0"
