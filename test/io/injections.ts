/** What an attacker would have a log say: values that must stay inside one line of visible ASCII. */
export const injections = [
  { value: 'a\r\n{"timestamp":"forged"}', because: 'CRLF injection' },
  { value: '\u001b[2J\u001b[31mred', because: 'ANSI sequences' },
  { value: 'a\u2028b\u2029c\u0085d', because: 'line separators outside ASCII' },
  { value: 'a\u202etxt.exe\u2066\u2069\u200f\u061c', because: 'bidirectional overrides' },
  { value: '"},{"reason":"ok"', because: 'a quote that closes the value' },
  { value: '\\', because: 'a backslash that escapes the quote' },
  { value: 'a\u0000b\u007f', because: 'NUL and DEL' },
  { value: 'Zoë 🔑 \ud800', because: 'letters outside ASCII, and half a pair' },
]
