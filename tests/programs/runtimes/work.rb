require 'set'
require 'json'
require 'digest'
q = Queue.new
t = 4.times.map { |i| Thread.new { 500.times { |k| q << i * k }; Thread.pass } }
t.each(&:join)
s = 0
s += q.pop until q.empty?
f = Fiber.new { 3.times { |i| Fiber.yield i }; :done }
e = Enumerator.new { |y| a, b = 0, 1; loop { y << a; a, b = b, a + b } }
h = (1..50000).each_with_object(Hash.new(0)) { |i, m| m[i * 7919 % 997] += i }
GC.start
pid = fork { exit 3 }
Process.wait pid
puts s, [f.resume, f.resume, f.resume, f.resume].inspect, e.lazy.select(&:even?).first(10).sum
puts h.size, Digest::SHA256.hexdigest(JSON.generate(h.sort)), $?.exitstatus, 2**200, ("%.10f" % Math.sqrt(2))
begin; def deep(n) = deep(n + 1); deep(0); rescue SystemStackError => x; puts x.class; end
Signal.trap('USR1') { puts 'usr1' }
Process.kill('USR1', $$); sleep 0.1
