/** An empty or dot segment, a backslash, parameter or fragment, an escape of these, of a percent sign or of a control character. */
const irregular = /\/\/|\/\.{1,2}(?:\/|$)|[\\;#]|%(?:2[ef5]|5c|3b|23|[01][0-9a-f]|7f)|%(?![0-9a-f]{2})|[^\x21-\x7e]/i
const escape = /%([0-9A-Fa-f]{2})/g
const unreserved = /[A-Za-z0-9\-._~]/

/**
 * The path that rules are held against: without its query, needless escapes undone (RFC 3986 §6.2.2.2). `undefined` when servers
 * disagree about which resource it names (`//`, `/../`, `\`, `;`, `%2f`, …): no rule may let such a path in because of what it seems to be,
 * and a rule that refuses a path refuses it.
 */
export function regularPath (target: string): string | undefined {
  const query = target.indexOf('?')
  const path = query < 0 ? target : target.slice(0, query)
  if (!path.startsWith('/') || irregular.test(path)) return undefined
  return path.includes('%') ? path.replaceAll(escape, undoNeedless) : path
}

function undoNeedless (escaped: string, digits: string): string {
  const character = String.fromCharCode(Number.parseInt(digits, 16))
  return unreserved.test(character) ? character : escaped.toUpperCase()
}

/** Lower case, without port and final dot. */
export function regularHost (authority: string): string {
  const bracket = authority.lastIndexOf(']')
  const colon = authority.indexOf(':', bracket + 1)
  const host = colon < 0 ? authority : authority.slice(0, colon)
  return (host.endsWith('.') ? host.slice(0, -1) : host).toLowerCase()
}
