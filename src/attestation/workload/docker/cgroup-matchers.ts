/** Finds a container's ID in the path of a control group. */
export type ContainerIdMatcher = (path: string) => string | undefined

/**
 * SPIRE's language of `container_id_cgroup_matchers`: parts between slashes, of which `*` stands for any one and `<id>`, exactly once, for
 * the ID; all others stand for themselves. Two patterns must not fit the same path.
 * @returns the one that fits says what the ID is; it may be empty
 * @throws {TypeError} names the pattern
 */
export function cgroupMatcher (patterns: readonly string[]): ContainerIdMatcher {
  const all = patterns.map(pattern => pattern.split('/'))
  for (const [index, parts] of all.entries()) {
    const quoted = JSON.stringify(patterns[index])
    const ids = parts.filter(part => part === '<id>').length
    if (ids !== 1) throw new TypeError(`must have <id> exactly once as a part of its own: ${quoted}`)
    const rival = all.findIndex((other, at) => at < index && mayFitTheSame(parts, other))
    if (rival >= 0) throw new TypeError(`must not be ambiguous: ${JSON.stringify(patterns[rival])} and ${quoted} may fit the same path`)
  }
  return path => {
    const given = path.split('/')
    const parts = all.find(parts => parts.length === given.length && parts.every((part, at) => isAny(part) || part === given[at]))
    return parts && given[parts.indexOf('<id>')]
  }
}

function isAny (part: string | undefined): boolean { return part === '*' || part === '<id>' }

function mayFitTheSame (a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((part, at) => part === b[at] || isAny(part) || isAny(b[at]))
}
