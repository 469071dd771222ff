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
