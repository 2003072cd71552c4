const graceMs = 12 * 3_600_000
const longestJitterMs = 600_000

interface Lifetime { readonly notBefore: Date, readonly notAfter: Date }

/**
 * When to renew, as Unix milliseconds: at half of the lifetime, less up to `spread` of it, so that SVIDs issued together are not renewed
 * together. One that was issued just now gets at least a third of what it has left: servers backdate `notBefore`, and the half-life of a
 * short-lived SVID would be over at its birth.
 * @param random 0 to 1
 * @param issuedAt of an SVID that was issued just now
 * @param availabilityMs for how long it is to be of use while no server is there (SPIRE's `availability_target`, spire-surface §2.2):
 *   renewed when it has that left and up to 10 minutes more, where it lives for 12 hours beyond that
 */
export function renewalTimeMs (
  { notBefore, notAfter }: Lifetime, spread: number, random: number, issuedAt?: Date, availabilityMs?: number
): number {
  const lifetimeMs = notAfter.getTime() - notBefore.getTime()
  const halfLife = notBefore.getTime() + lifetimeMs * (0.5 - spread * random)
  if (availabilityMs !== undefined && lifetimeMs - availabilityMs > graceMs) {
    return Math.min(halfLife, notAfter.getTime() - availabilityMs - longestJitterMs * random)
  }
  if (issuedAt === undefined) return halfLife
  return Math.max(halfLife, issuedAt.getTime() + (notAfter.getTime() - issuedAt.getTime()) / 3)
}

/**
 * Whether the clock was set back since an SVID was received: then it may not be valid yet for anybody, and is renewed at once. Told
 * from the time of receipt, since a server whose clock runs ahead issues every SVID a little in the future. Servers backdate by 10 s.
 */
export function wasSetBack (receivedAtMs: number, nowMs: number): boolean {
  return nowMs < receivedAtMs - 10_000
}
