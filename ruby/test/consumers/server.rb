# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require "rbconfig"
require "socket"

# A server of somebody else's, as a process of its own: started on a port that the kernel
# chooses, which it tells in its log, and ended by its process id.
class Server
  # Seconds until a start or an end that hangs is given up.
  PATIENCE = 60

  # @return [Integer]
  attr_reader :pid, :port

  # The folders that the tests themselves take fid from, for the server to do the same.
  def self.load_path
    files = %w[fid.rb io/splice.rb fid/fid_ext.so]
    $LOAD_PATH.select { |folder| files.any? { |file| File.exist?(File.join(folder, file)) } }
  end

  # Why the server cannot be run by this Ruby, or nil when it can.
  def self.missing(command, *libraries)
    return "#{command} is not installed" unless path(command)

    script = libraries.map { |library| "require #{library.dump}" }.join(";")
    return if system(RbConfig.ruby, "-e", script, out: File::NULL, err: File::NULL)

    "#{command} is not installed for Ruby #{RUBY_VERSION}"
  end

  def self.path(command)
    ENV.fetch("PATH", "").split(":").map { |folder| File.join(folder, command) }
       .find { |path| File.executable?(path) }
  end

  # @param command [Array<String>] a program in Ruby and its arguments
  # @param log [String] a file that takes what it prints
  # @param before [Array<String>] a command that runs the server
  # @param listening [Regexp] what it prints when it listens, with the port as its first group
  def initialize(command, log:, listening:, environment: {}, before: [])
    @log = log
    program, *arguments = command
    includes = Server.load_path.flat_map { |folder| ["-I", folder] }
    @pid = spawn(environment, *before, RbConfig.ruby, "-W:no-experimental", *includes,
                 Server.path(program), *arguments,
                 in: File::NULL, out: [log, "w"], err: [:child, :out], pgroup: true)
    @port = find_port(listening)
  rescue StandardError
    stop
    raise
  end

  # @return [String] what it has printed
  def log
    File.binread(@log).force_encoding(Encoding::UTF_8).scrub
  end

  # @return [Array<Integer>] the processes that the server started
  def workers
    stats = Dir.glob("/proc/[0-9]*/stat").map do |name|
      File.read(name)
    rescue Errno::ENOENT, Errno::ESRCH
      "" # it has ended
    end
    # What is in brackets is a name and may have spaces; then state and parent come.
    found = stats.grep(/\) \w #{@pid} /).map(&:to_i).sort
    raise "no worker of #{@pid} is seen" if found.empty?

    found
  end

  # How many descriptors of a process are pipes, sockets, and files of a folder.
  #
  # @return [Hash{Symbol => Integer}]
  def self.descriptors(pid, folder)
    links = Dir.children("/proc/#{pid}/fd").filter_map do |number|
      File.readlink("/proc/#{pid}/fd/#{number}")
    rescue Errno::ENOENT
      nil # it was the one that read the folder, or has been closed meanwhile
    end
    { pipes: links.count { |link| link.start_with?("pipe:") },
      sockets: links.count { |link| link.start_with?("socket:") },
      files: links.count { |link| link.start_with?(folder) } }
  end

  def stop
    return unless @pid

    Process.kill(:TERM, @pid)
    ended = Server.eventually { Process.wait(@pid, Process::WNOHANG) }
    # Its process group is its own: it and its workers, nobody else.
    Process.kill(:KILL, -@pid) unless ended
    Process.wait(@pid) unless ended
    @pid = nil
  rescue Errno::ESRCH, Errno::ECHILD
    @pid = nil
  end

  # Asks again until the block answers, or patience is at its end: then nil.
  def self.eventually(patience = PATIENCE)
    deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + patience
    loop do
      answer = yield
      return answer if answer
      return if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline

      sleep 0.02
    end
  end

  private

  def find_port(listening)
    found = Server.eventually do
      raise "the server ended:\n#{log}" if Process.wait(@pid, Process::WNOHANG)

      log[listening, 1]
    end
    raise "the server does not listen:\n#{log}" unless found

    found.to_i
  end
end
