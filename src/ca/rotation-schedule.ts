/**
 * When a trust domain's authorities change, as parts of their lifetime. A third in, the next one is made and published;
 * shortly before half, it takes over. So an SVID may always live for more than half of the CA's lifetime, and everybody had
 * `0.45 - 1/3` of it to learn the new key before anything is signed with it (FED-02, FED-03).
 */
const prepareAfter = 1 / 3
const activateAfter = 0.45

export interface Lifetime { readonly notBefore: Date, readonly notAfter: Date }

/** When the successor is made and published. */
export function prepareAt (lifetime: Lifetime): Date { return partOf(lifetime, prepareAfter) }

/** When the successor takes over; always before half of the lifetime. */
export function activateAt (lifetime: Lifetime): Date { return partOf(lifetime, activateAfter) }

function partOf ({ notBefore, notAfter }: Lifetime, part: number): Date {
  return new Date(notBefore.getTime() + part * (notAfter.getTime() - notBefore.getTime()))
}

/** How long every SVID may live at the least, whenever it is issued: what is left of a CA that signs its last. */
export function guaranteedTtlSeconds (caTtlSeconds: number): number { return Math.floor(caTtlSeconds * (1 - activateAfter)) }
