/** What the name of an HTTP field is made of: a token (RFC 9110 §5.1, §5.6.2). */
export const fieldName = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
