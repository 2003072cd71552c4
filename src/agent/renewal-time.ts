interface Lifetime { readonly notBefore: Date, readonly notAfter: Date }

/**
 * When to renew, as Unix milliseconds: at half of the lifetime, less up to `spread` of it, so that SVIDs issued together are not renewed
 * together. One that was issued just now gets at least a third of what it has left: servers backdate `notBefore`, and the half-life of a
 * short-lived SVID would be over at its birth.
 * @param random 0 to 1
 * @param issuedAt of an SVID that was issued just now
 */
export function renewalTimeMs ({ notBefore, notAfter }: Lifetime, spread: number, random: number, issuedAt?: Date): number {
  const halfLife = notBefore.getTime() + (notAfter.getTime() - notBefore.getTime()) * (0.5 - spread * random)
  if (issuedAt === undefined) return halfLife
  return Math.max(halfLife, issuedAt.getTime() + (notAfter.getTime() - issuedAt.getTime()) / 3)
}
