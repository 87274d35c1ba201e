// What is known of the messages of a channel: when each was published, written and confirmed. Pure: no page, no network.

const MOST = 300;

/** The messages that were seen last, by their ids. Moments are microseconds of the clock of Redis, as ids are. */
export class Lives {
  constructor(most = MOST) {
    this.most = most;
    this.found = new Map();
  }

  /** The life of a message; one that is not known begins. */
  of(id) {
    let life = this.found.get(id);
    if (!life) {
      life = { id, data: undefined, written: new Map(), replayed: [], confirmed: new Map(), changed: true };
      this.found.set(id, life);
      if (this.found.size > this.most) this.found.delete(Math.min(...this.found.keys()));
    }
    life.changed = true;
    return life;
  }

  /** A message as the history has it. */
  read({ id, data }) {
    this.of(id).data = { value: data };
  }

  /** What a node has told. */
  note(event) {
    if (event.kind === 'written') {
      const { node, received, at, receivers } = event;
      this.of(event.message).written.set(node, { received, at, receivers });
    } else if (event.kind === 'replayed') {
      for (const life of this.between(event.first - 1, event.last)) life.replayed.push(event);
    } else if (event.kind === 'confirmed') {
      // Without `after` a client has come back with what it has, which was sent to a connection of its user's that is over.
      const sentBefore = event.after === undefined;
      for (const life of this.between(event.after ?? 0, event.up_to)) {
        if (sentBefore ? awaits(life, event.user) : !life.confirmed.has(event.connection)) life.confirmed.set(event.connection, event);
      }
    }
  }

  /** Newest first. */
  newest(count) {
    return [...this.found.values()].sort((one, other) => other.id - one.id).slice(0, count);
  }

  *between(after, upto) {
    for (const life of this.found.values()) {
      if (life.id > after && life.id <= upto) {
        life.changed = true;
        yield life;
      }
    }
  }
}

/** Whether a message was seen to be sent, and no device of this user has confirmed it yet. */
function awaits({ written, replayed, confirmed }, user) {
  return (written.size > 0 || replayed.length > 0) && ![...confirmed.values()].some((each) => each.user === user);
}

/** The steps of a life in their order: `{at, kind, …}`. */
export function steps(life) {
  const found = [];
  for (const [node, { received, at, receivers }] of life.written) {
    found.push({ at: received, kind: 'received', node }, { at, kind: 'written', node, receivers });
  }
  for (const { at, connection, user } of life.replayed) found.push({ at, kind: 'replayed', connection, user });
  for (const { at, connection, user } of life.confirmed.values()) found.push({ at, kind: 'confirmed', connection, user });
  // A node knows the time of Redis from asking: what it tells may seem to be a little before the publish.
  return [{ at: life.id, kind: 'published' }, ...found.sort((one, other) => one.at - other.at)];
}

/** To how many connections a message went, how many have confirmed it, and the microseconds that this took. */
export function summary(life) {
  const written = [...life.written.values()];
  const devices = new Set([...life.confirmed.keys(), ...life.replayed.map((each) => each.connection)]);
  const receivers = Math.max(written.reduce((sum, each) => sum + each.receivers, 0), devices.size);
  const last = (moments) => (moments.length > 0 ? Math.max(0, Math.max(...moments) - life.id) : undefined);
  return {
    receivers,
    confirmed: life.confirmed.size,
    replayed: life.replayed.length > 0,
    written: last(written.map((each) => each.at)),
    complete: last([...life.confirmed.values()].map((each) => each.at)),
  };
}
