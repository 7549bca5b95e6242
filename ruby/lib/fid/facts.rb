# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require "fid/fid_ext"

module Fid
  # What this kernel, container and user allow: found by doing it, and not by the kernel's
  # version. Fid.probe makes one. It is frozen and may be shared by Ractors.
  class Facts
    # @return [Hash{Symbol => Class}] the calls that are refused, with the class of the error:
    #   {vmsplice: Errno::EPERM}. Their names are those of the predicates below.
    attr_reader :refused
    # @return [Symbol] what vmsplice of memory into a pipe does: :refused, :copies or
    #   :by_reference
    attr_reader :vmsplice_meaning
    # @return [Integer] the capacity of a new pipe
    attr_reader :pipe_bytes
    # @return [Integer] its capacity after one MiB was asked for
    attr_reader :pipe_bytes_grown

    # @api private
    def initialize(refused:, vmsplice_meaning:, vmsplice_fresh:, splice_empty_is_eof:,
                   huge_pages:, pipe_bytes:, pipe_bytes_grown:)
      @refused = refused
      @vmsplice_meaning = vmsplice_meaning
      @vmsplice_fresh = vmsplice_fresh
      @splice_empty_is_eof = splice_empty_is_eof
      @huge_pages = huge_pages
      @pipe_bytes = pipe_bytes
      @pipe_bytes_grown = pipe_bytes_grown
      freeze
    end
    private_class_method :new

    # Looks, or returns what was found before.
    #
    # @api private
    def self.probe(again)
      new(**find(again))
    end

    # @return [Boolean] whether splice moves bytes from pipe to pipe
    def splice?
      works?(:splice)
    end

    # @return [Boolean] whether tee works
    def tee?
      works?(:tee)
    end

    # @return [Boolean] whether vmsplice is allowed; #vmsplice_meaning tells what it does
    def vmsplice?
      works?(:vmsplice)
    end

    # @return [Boolean] whether vmsplice takes the flag SPLICE_F_GIFT
    def vmsplice_gift?
      works?(:vmsplice_gift)
    end

    # @return [Boolean] whether sendfile works
    def sendfile?
      works?(:sendfile)
    end

    # @return [Boolean] whether copy_file_range works
    def copy_file_range?
      works?(:copy_file_range)
    end

    # @return [Boolean] whether a write can be kept from raising SIGPIPE (RWF_NOSIGNAL)
    def write_nosignal?
      works?(:write_nosignal)
    end

    # @return [Boolean] whether pipes can be made
    def pipe?
      works?(:pipe)
    end

    # @return [Boolean] whether a pipe grows to one MiB
    def pipe_grow?
      works?(:pipe_grow)
    end

    # @return [Boolean] whether memory can be sealed; Fid::Memory.constant needs it
    def memory_seal?
      works?(:memory_seal)
    end

    # @return [Boolean] whether pages that are dropped after vmsplice keep their bytes
    #   downstream
    def vmsplice_fresh?
      @vmsplice_fresh
    end

    # @return [Boolean] whether splice of an empty pipe says "end of file" where it should say
    #   EAGAIN, as gVisor does
    def splice_empty_is_eof?
      @splice_empty_is_eof
    end

    # @return [Boolean] whether new memory comes in huge pages
    def huge_pages?
      @huge_pages
    end

    # @return [Hash{Symbol => Object}] all of it: a Boolean for each predicate, by its name
    #   without the question mark, and the rest as the methods return it
    def to_h
      {
        splice: splice?, tee: tee?, vmsplice: vmsplice?, vmsplice_gift: vmsplice_gift?,
        sendfile: sendfile?, copy_file_range: copy_file_range?,
        write_nosignal: write_nosignal?, pipe: pipe?, pipe_grow: pipe_grow?,
        memory_seal: memory_seal?, refused: refused, vmsplice_meaning: vmsplice_meaning,
        vmsplice_fresh: vmsplice_fresh?, splice_empty_is_eof: splice_empty_is_eof?,
        huge_pages: huge_pages?, pipe_bytes: pipe_bytes, pipe_bytes_grown: pipe_bytes_grown
      }
    end

    # @return [Boolean] whether the other has found the same
    def ==(other)
      other.is_a?(Facts) && to_h == other.to_h
    end
    alias eql? ==

    # @return [Integer]
    def hash
      to_h.hash
    end

    # @return [String]
    def inspect
      "#<Fid::Facts #{to_h.map { |name, value| "#{name}: #{value.inspect}" }.join(", ")}>"
    end

    private

    def works?(call)
      !@refused.key?(call)
    end
  end

  # Tells what works here. The first call in a process finds out, in less than a millisecond,
  # with descriptors of its own; later calls return what was found. A child of fork asks anew.
  #
  # @param again [Boolean] whether the kernel is to be asked anew, for a process that has just
  #   entered a sandbox
  # @return [Facts] frozen
  # @raise [SystemCallError] never for a call that is refused: that is a fact, and in
  #   Facts#refused
  def self.probe(again: false)
    Facts.probe(again)
  end
end
