/** What stands for the address of a client that came on a Unix socket, and before the path of one to listen on or connect to. */
export const unixAddress = 'unix:'

/** Longest path of a socket, in bytes: what fits into a sockaddr_un with the zero at its end; the system would cut off more. */
export const maxSocketPath = 107
