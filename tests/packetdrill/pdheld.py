"""Scripts that `taut trace --pkt` made of a record: the daemon's turns done again, in their order and at their times.

A daemon reads a batch of segments, lets programs act, and sends at the end of its turn, at moments that depend on the
machine. So here the engine is held (shim.h, drill_hold()): an event of the script does what it says and nothing leaves;
an outbound segment asks the engine for one, at its time; timers run out where the record says that they did. What a
script says of that are commands which do nothing in a shell (":"), so that it stays one of packetdrill's:

    `: expire`         timers run out that are due; that none is, is a failure
    `: asked`          the engine was asked for a segment and had none
    `: chunks N`       frames come in chunks, as a TAP is read, with N bytes before the IP packet; 0: they are copied
    `: runs 1`         of coalesced packets each segment lies in a chunk of its own; 0: as a device gives them
    `: gso N`          coalesced packets that come in have segments of N bytes from here on
    `: metrics R S O`  remembered of the peer: round-trip time in us << 3, ssthresh, reordering
    `: next_hop N E`   0: the connection waits for its address, 1: that is known, 2: errno E is what became of it
    `: refused SEQ`    the device's queue was full: the segment that begins there is taken back

A timer that no record tells of (the pacing gate, a SYN-ACK's) runs out when a segment is asked for and none is ready.
At the end everything is asked for that is ready; that there is something is a failure, but with "open end": the record
was made within a turn.
"""

import pdrun
import pdshim


class HeldRunner(pdrun.Runner):
    def new_host(self, addresses, mtu):
        return pdshim.Host(self.lib, self.settings.seed, addresses, mtu, self.script.held.clock)

    def expect_packet(self, event):
        if event.time.kind != 'any':
            self.advance(self.begin_us)
        super().expect_packet(event)

    def next_live(self, limit_us):
        del limit_us
        expired = False
        while True:
            while self.queue:
                live = self.queue.popleft()
                if self.belongs(live) or self.adopt(live):
                    return live
            if self.pull():
                continue
            if expired or not self.host.expire():
                return None
            expired = True

    def pull(self):
        """False: nobody is ready."""
        r = self.host.pull(False)
        self.collect()
        return r >= 0

    def collect_rest(self):
        self.collect()
        if self.script.held.open_end:
            self.queue.clear()
            return
        while self.pull():
            pass

    def segment_bytes(self, raw):
        header = (raw[0] & 15) * 4 if raw[0] >> 4 == 4 else 40
        payload = len(raw) - header - (raw[header + 12] >> 4) * 4
        return self.settings.mss if payload > self.settings.mss else 0

    # ---- what the script says of turns ----

    def held_expire(self):
        if self.host.expire() < 2:
            at = self.host.deadline()
            raise pdrun.Failure('no timer runs out', [
                'expected: one at %.9f' % (self.begin_us / 1e6),
                '  actual: ' + ('none runs' if at == pdshim.NEVER else 'the next at %.9f' % ((at - self.t0) / 1e9))])

    def held_asked(self):
        if self.host.pull(True) == 1:
            self.collect()
            left = [self.live_line(x) for x in self.queue if self.belongs(x)]
            raise pdrun.Failure('a segment left, none did then', ['expected: none'] + ['  actual: ' + x for x in left])

    def held_gso(self, n):
        self.settings.mss = n

    def held_chunks(self, front):
        self.host.chunks(front)

    def held_runs(self, on):
        self.host.runs(on)

    def held_metrics(self, rtt, ssthresh, reordering):
        self.host.metrics(self.variant['remote'].encode(), rtt, ssthresh, reordering)

    def held_next_hop(self, what, error):
        self.host.next_hop(what, error)

    def held_refused(self, seq):
        c = self.conn
        if self.host.refused((seq + c.local_isn) & pdrun.MASK) < 0:
            raise pdrun.Failure('no segment that begins at %d has left' % seq)


def runner(lib, path, script, variant, settings):
    """The runner for this script."""
    if isinstance(script, str):
        script = pdrun.pdlang.parse(script, pdrun.VARIANTS[variant]['defines'])
    return (HeldRunner if script.held else pdrun.Runner)(lib, path, script, variant, settings)
