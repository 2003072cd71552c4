import { readControlGroups } from '../runtime/process-facts.ts'

/**
 * Whose share of the connections of a Unix socket each one takes: its user's. Root, and who has our own number, are most often not the
 * machine's administrator but that of a container; they pay by their control groups, which say in which one they are.
 * @returns `undefined`: who is in our own groups pays nothing
 */
export function connectionPayers (): (peer: { readonly uid: number, readonly pid: number }) => string | undefined {
  const trusted = new Set([0, process.getuid?.()])
  const own = readControlGroups('self')
  return ({ uid, pid }) => {
    if (!trusted.has(uid)) return `${uid}`
    const groups = readControlGroups(pid)
    return groups === own ? undefined : `${uid} ${groups ?? 'hidden'}`
  }
}
