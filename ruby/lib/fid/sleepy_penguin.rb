# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require "fid/version"
require "fid/fid_ext"
require "fid/copy"
require "fcntl"

# The calls of the gem sleepy_penguin that move bytes, with its arguments, on libfid. Only who
# requires this file has them; the rest of sleepy_penguin (epoll and others) is not here, and
# both gems may be loaded: what is loaded last defines the methods.
module SleepyPenguin
  # A hint to the kernel; it does nothing since Linux 2.6.21.
  F_MOVE = Fid::F_MOVE unless const_defined?(:F_MOVE)
  # Do not wait for a pipe. The end that is no pipe has its own O_NONBLOCK.
  F_NONBLOCK = Fid::F_NONBLOCK unless const_defined?(:F_NONBLOCK)
  # More will follow: a socket may wait with a partial frame.
  F_MORE = Fid::F_MORE unless const_defined?(:F_MORE)
  # The command of fcntl(2) for the capacity of a pipe.
  F_GETPIPE_SZ = Fid::F_GETPIPE_SZ unless const_defined?(:F_GETPIPE_SZ)
  # The command of fcntl(2) that changes it.
  F_SETPIPE_SZ = Fid::F_SETPIPE_SZ unless const_defined?(:F_SETPIPE_SZ)

  class << self
    # Moves at most +len+ bytes; one end is a pipe. {Fid.splice} tells the rest.
    #
    # @param flags [Integer, Symbol, Array<Symbol>] +:nonblock+, +:more+, +:move+
    # @return [Integer, nil, :EAGAIN] bytes; nil (end of file) and :EAGAIN with exception: false
    def splice(io_in, io_out, len, flags = 0, off_in: nil, off_out: nil, exception: true)
      Fid.splice(io_in, io_out, len, flags, off_in: off_in, off_out: off_out,
                                            exception: exception)
    end

    # The same with +:nonblock+ and +exception: false+.
    #
    # @return [Integer, nil, :EAGAIN] bytes; nil at the end of the file
    def trysplice(io_in, io_out, len, flags = 0, off_in: nil, off_out: nil)
      Fid.splice(io_in, io_out, len, [*flags, :nonblock], off_in: off_in, off_out: off_out,
                                                          exception: false)
    end

    # Gives at most +len+ bytes of one pipe to another, and takes none away.
    #
    # @return [Integer, nil, :EAGAIN] bytes; nil (end of file) and :EAGAIN with exception: false
    def tee(io_in, io_out, len, flags = 0, exception: true)
      Fid.tee(io_in, io_out, len, flags, exception: exception)
    end

    # The same with +:nonblock+ and +exception: false+.
    #
    # @return [Integer, nil, :EAGAIN] bytes; nil at the end of the file
    def trytee(io_in, io_out, len, flags = 0)
      Fid.tee(io_in, io_out, len, [*flags, :nonblock], exception: false)
    end

    # Copies at most +len+ bytes between files; where the kernel cannot, by another way.
    #
    # @return [Integer] bytes; 0 at the end of the file
    # @raise [Errno::EINVAL] an end is no regular file, or flags are given
    def copy_file_range(io_in, io_out, len, flags = 0, off_in: nil, off_out: nil)
      raise Errno::EINVAL, "copy_file_range" unless flags.zero? && file?(io_in) && file?(io_out)

      Fid.copy(io_in, io_out, len, source_offset: off_in, sink_offset: off_out).bytes
    end

    # Sends at most +len+ bytes of a file; less where the sink has O_NONBLOCK and would block.
    #
    # @param offset [Integer, nil] where to begin; else at the file's own offset, which moves
    # @return [Integer, :wait_writable] bytes; 0 at the end of the file
    def linux_sendfile(io_out, io_in, len, offset: nil)
      file = as_io(io_in)
      from = offset || file.pos
      flow = Fid::Flow.new(file, io_out, len, source_offset: from,
                                              routes: %i[sendfile read_write])
      state = send_some(flow, nonblock?(as_io(io_out)))
      moved = flow.receipt.bytes
      return :wait_writable if moved.zero? && state == :wait_writable

      file.pos = from + moved unless offset
      moved
    ensure
      flow&.close
    end
    alias sendfile linux_sendfile

    private

    # What has been sent before a failure is the answer; the next call meets the failure again.
    def send_some(flow, nonblock)
      nonblock ? (nil while (state = flow.step) == :more) : flow.run
      state
    rescue Fid::Failure
      raise if flow.receipt.bytes.zero?
    end

    def nonblock?(io)
      io.fcntl(Fcntl::F_GETFL) & File::NONBLOCK != 0
    end

    def as_io(given)
      given.is_a?(Integer) ? IO.for_fd(given, autoclose: false) : given.to_io
    end

    def file?(given)
      as_io(given).stat.file?
    end
  end
end
