# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# What a program does whose kernel refuses splice, tee and the others: run by seccomp_test.rb
# under "fid run --deny", with the name of a case. Prints what came of it as JSON.

require "fid"
require "io/splice"
require "json"
require "socket"
require "tmpdir"

BYTES = Random.new(7).bytes((1 << 20) + 1).freeze
KINDS = %w[file pipe socket].freeze
FOLDER = Dir.mktmpdir("fid-denied")
at_exit { FileUtils.remove_entry(FOLDER) }

# A source of a kind, which has BYTES and then ends.
def source(kind)
  if kind == "file"
    name = File.join(FOLDER, "source")
    File.binwrite(name, BYTES)
    return File.open(name, "rb")
  end
  reader, writer = kind == "pipe" ? IO.pipe : UNIXSocket.pair
  Thread.new do
    writer.write(BYTES)
    writer.close
  end
  reader.binmode
end

# A sink of a kind, and what closes it and tells what it got.
def sink(kind)
  if kind == "file"
    name = File.join(FOLDER, "sink-#{rand(1 << 40)}")
    file = File.open(name, "wb")
    return [file, -> { file.close || File.binread(name) }]
  end
  reader, writer = kind == "pipe" ? IO.pipe : UNIXSocket.pair
  reading = Thread.new { reader.binmode.read }
  [writer, -> { writer.close || reading.value }]
end

# The block moves all that source gives to sink. What it returned, and whether every byte came.
def moving(from, to)
  source = source(from)
  sink, close = sink(to)
  returned = yield source, sink
  { whole: close.call == BYTES, returned: returned }
ensure
  source.close
end

# Every pair of kinds, as "file -> pipe".
def each_pair(pairs = KINDS.product(KINDS), &block)
  pairs.to_h { |from, to| ["#{from} -> #{to}", moving(from, to, &block)] }
end

# Those of which one is a pipe.
PAIRS_OF_SPLICE = KINDS.product(KINDS).select { |pair| pair.include?("pipe") }.freeze

def account(receipt)
  { bytes: receipt.bytes, user_copy: receipt.user_copy, by_method: receipt.by_method,
    refused: receipt.demotions.to_h { |demotion| [demotion.call, demotion.error] } }
end

# Asks again until the end of the file, as programs for io_splice do. Returns the bytes; or the
# error, and then the source must still have all of them, which Fid.copy shows.
def until_the_end(source, sink)
  moved = 0
  loop do
    case (got = attempt { yield })
    when Integer then moved += got
    when :EAGAIN then IO.select([source]) && IO.select(nil, [sink])
    when nil then return moved
    else
      Fid.copy(source, sink)
      return got
    end
  end
end

# What a call returned, as the calls with "try" have it, or the class of another error.
def attempt
  yield
rescue Errno::EAGAIN
  :EAGAIN
rescue EOFError
  nil
rescue SystemCallError => e
  e.class
end

# The error of a call, and that it took nothing out of a pipe that held this.
def refusal
  IO.pipe do |reader, writer|
    IO.pipe do |_, other|
      writer << "kept"
      returned = yield reader, other
      { returned: returned, kept: reader.read_nonblock(9) }
    rescue SystemCallError => e
      { error: e.class, failure: e.is_a?(Fid::Failure), kept: reader.read_nonblock(9) }
    end
  end
end

CASES = {
  "facts" => -> { Fid.probe.refused },

  # Whole files would be shared (FICLONE, which is not refused) where the file system can.
  "copy" => lambda do
    routes = %i[copy_file_range sendfile splice splice_pipe read_write]
    each_pair { |source, sink| account(Fid.copy(source, sink, routes: routes)) }
  end,

  "copy_of_parts" => lambda do
    each_pair do |source, sink|
      lengths = [5, 70_000, BYTES.bytesize - 70_005]
      lengths.sum { |length| Fid.copy(source, sink, length).bytes }
    end
  end,

  "copy_stream" => -> { each_pair { |source, sink| IO::Splice.copy_stream(source, sink) } },

  "splice" => lambda do
    each_pair(PAIRS_OF_SPLICE) do |source, sink|
      until_the_end(source, sink) { IO.splice(source, nil, sink, nil, 50_000) }
    end
  end,

  "trysplice" => lambda do
    flags = IO::Splice::F_NONBLOCK
    each_pair(PAIRS_OF_SPLICE) do |source, sink|
      until_the_end(source, sink) { IO.trysplice(source, nil, sink, nil, 50_000, flags) }
    end
  end,

  "partial" => lambda do
    each_pair(PAIRS_OF_SPLICE) do |source, sink|
      until_the_end(source, sink) { IO::Splice.partial(source, sink, 50_000, nil) }
    end
  end,

  "offsets" => lambda do
    half = BYTES.bytesize / 2
    moving("file", "pipe") do |source, sink|
      moved = 0
      moved += IO.splice(source, moved, sink, nil, half - moved) while moved < half
      moved += Fid.copy(source, sink, source_offset: half).bytes
      [moved, source.pos]
    end
  end,

  "tee" => -> { refusal { |reader, other| IO.tee(reader, other, 4) } },
  "trytee" => -> { refusal { |reader, other| IO.trytee(reader, other, 4) } },

  "vmsplice" => lambda do
    # More strings than one call takes, of every size.
    strings = BYTES.scan(/.{1,999}/mn)
    sink, close = sink("pipe")
    returned = IO.vmsplice(sink, strings)
    { whole: close.call == BYTES, returned: returned }
  end,

  "fan" => lambda do
    KINDS.to_h do |kind|
      sinks, closes = KINDS.map { |to| sink(to) }.transpose
      source = source(kind)
      receipt = Fid.fan(source, sinks)
      source.close
      [kind, { whole: closes.all? { |close| close.call == BYTES }, failed: receipt.failed.size,
               sinks: receipt.sinks.map { |each| account(each) } }]
    end
  end,

  "memory" => lambda do
    KINDS.product([:copy, :fresh]).to_h do |kind, mode|
      sink, close = sink(kind)
      memory = Fid::Memory.new(sink, mode: mode)
      memory << BYTES.byteslice(0, 99_999)
      memory.write(BYTES.byteslice(99_999, 500_000), BYTES.byteslice(599_999..))
      receipt = account(memory.receipt)
      memory.close
      ["#{mode} -> #{kind}", { whole: close.call == BYTES, returned: receipt }]
    end
  end,

  "constant" => lambda do
    constant = Fid::Memory.constant(BYTES)
    KINDS.to_h do |kind|
      sink, close = sink(kind)
      receipt = account(constant.copy_to(sink))
      [kind, { whole: close.call == BYTES, returned: receipt }]
    end
  end,

  # What Ruby's own does.
  "ruby" => lambda do
    KINDS.product(KINDS).to_h do |from, to|
      outcome = begin
        moving(from, to) { |source, sink| IO.copy_stream(source, sink) }
      rescue SystemCallError => e
        e.class
      end
      ["#{from} -> #{to}", outcome]
    end
  end
}.freeze

puts JSON.generate(CASES.fetch(ARGV.fetch(0)).call)
