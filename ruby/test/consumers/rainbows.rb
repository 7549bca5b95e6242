# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# Configures Rainbows! as its manual says for io_splice, and counts what it calls.

require "io/splice"

evidence = File.open(ENV.fetch("CONSUMER_EVIDENCE"), File::WRONLY | File::APPEND | File::CREAT)
evidence.sync = true

# One line for each call: the process, who was asked, what for, and what came of it.
witness = lambda do |name|
  Module.new do
    define_method(:copy_stream) do |source, *rest|
      outcome = "raised"
      outcome = super(source, *rest)
    rescue SystemCallError, EOFError => e
      outcome = e.class
      raise
    ensure
      kind = source.is_a?(String) ? "path" : source.stat.ftype
      evidence.syswrite("#{Process.pid} #{name} #{kind} #{rest.drop(1).inspect} #{outcome}\n")
    end
  end
end
IO::Splice.singleton_class.prepend(witness.call("IO::Splice"))
IO.singleton_class.prepend(witness.call("IO"))

Rainbows! do
  use ENV.fetch("CONSUMER_MODEL").to_sym
  worker_connections 40
  keepalive_requests 1000
  keepalive_timeout 20
  copy_stream IO::Splice
end

worker_processes 2
listen "127.0.0.1:0", backlog: 128
