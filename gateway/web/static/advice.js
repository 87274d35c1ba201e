// What the page says to each error code and close reason, besides what the gateway itself says.

const ADVICE = {
  // Of a message.
  invalid_message: 'The gateway could not read this message.',
  unknown_type: 'The gateway knows no message of this type.',
  binary_unsupported: 'The gateway takes text messages only.',
  message_too_large: 'The gateway takes only shorter messages.',
  invalid_channel: 'This is no name of a channel, which is a namespace, “/” and an id.',
  forbidden: 'This channel is not granted to this user. After “publisher grant” the page subscribes by itself (notifications are for their own user only).',
  too_many_subscriptions: 'Leave another channel first.',
  not_subscribed: 'Only those in a channel are told who is there. Subscribe to it first.',
  no_presence: 'Nobody notes who is in this channel: its namespace has no presence.',
  channel_full: 'As many are in this channel as may be. Subscribe again later.',
  messages_lost: 'Some messages were no longer kept when they could have been sent.',

  // Of a message, or of a connection that is closed.
  internal_error: 'The gateway has met a defect, or an error of Redis that does not pass. Its log says which.',

  // Of a connection that is closed.
  token_missing: 'The gateway got no token.',
  token_invalid: 'The gateway does not accept this token. Paste another one.',
  token_expired: 'This token has run out. Start the gateway again, or run “gateway token”.',
  token_not_yet_valid: 'This token is not valid yet: the clock of whoever made it is ahead.',
  token_key_unknown: 'The gateway does not know the key of this token yet. Try again in a moment.',
  token_revoked: 'This token was revoked. Paste another one.',
  disconnected: 'The backend has ended this connection. The page connects again by itself.',
  connection_limit: 'This user holds all the connections they may. Close another tab.',
  replaced: 'This user has opened a newer connection, and this was the oldest.',
  flood: 'Too many messages, or too many mistakes, in a short time.',
  draining: 'This gateway is being stopped; another one takes over.',
  slow_consumer: 'This page did not read fast enough.',
  pong_timeout: 'The gateway heard nothing from this page for too long.',

  // Of a subscription that has ended by itself.
  expired: 'The grant’s time is over.',
  revoked: 'The grant was taken back.',
  grant_lost: 'Redis has lost its data, and the grant with it. Grant it again.',
};

/** A sentence, or nothing, for an error code, a close reason or the reason of an end. */
export function adviceOn(reason) {
  return ADVICE[reason];
}
