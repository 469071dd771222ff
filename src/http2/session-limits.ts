// What a session may hold, of clients and of upstreams alike.

/**
 * Bytes that may be on their way to us, of all streams of a session together. Node gives them back as it reads, so that
 * they hold nothing; the 64 KiB there are from the beginning would be the most that all of them get in a round trip.
 */
export const sessionWindow = 1_048_576

/** What node is told of every session. */
export const sessionBounds = {
  // Megabytes, and no limit: it never takes off what was still to be sent on a stream that was reset, and would refuse
  // every stream of the session in the end. What a session holds is bounded by its streams, and by what each may have to send.
  maxSessionMemory: 1_000_000,
  // No limit. It counts frames that are no good for the life of a session, messages that are longer than their length and
  // empty frames among them, and then ends it for all that share it. So does nghttp2, which forgets: it bears 10,000 at
  // once, and 330 more with each second.
  maxSessionInvalidFrames: 0xffff_ffff,
  // Of a head on its way out, in bytes: more than all limits together let it have. Of one that is too long for nghttp2
  // node makes the end of its session.
  maxSendHeaderBlockLength: 8_388_608,
  // White space around a value comes to us, to be refused: nghttp2 would drop the field, and the message pass.
  strictFieldWhitespaceValidation: false,
  // What is said twice is passed on twice.
  strictSingleValueFields: false,
} as const
