// What a session may hold, of clients and of upstreams alike.

/**
 * The most that node may hold of one session (`maxSessionMemory`): megabytes, and no limit. It never takes off what was
 * still to be sent on a stream that was reset, and would refuse every stream of the session in the end. What a session
 * holds is bounded by its streams, and by what each of them may have to send.
 */
export const noLimit = 1_000_000

/**
 * Bytes that may be on their way to us, of all streams of a session together. Node gives them back as it reads, so that
 * they hold nothing; the 64 KiB there are from the beginning would be the most that all of them get in a round trip.
 */
export const sessionWindow = 1_048_576

/**
 * Frames that are no good and that node bears of one session (`maxSessionInvalidFrames`): no limit. It counts them for the
 * life of a session, messages that are longer than their length and empty frames among them, and then ends it for all that
 * share it. So does nghttp2, which forgets: it bears 10,000 at once, and 330 more with each second.
 */
export const anyInvalidFrames = 0xffff_ffff
