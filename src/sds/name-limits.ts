import { SpiffeError } from '../spiffe/errors.ts'

/** Names one stream may ask for. Many more than one Envoy needs, few enough that a hostile caller cannot cost much. */
const maxNames = 1000
/** No SPIFFE ID is longer (ID-10, AMB-26). */
const maxNameLength = 2048

/** @throws {SpiffeError} `argument_invalid` */
export function checkNames (names: Iterable<string>, most = maxNames): void {
  let count = 0
  for (const name of names) {
    if (name.length > maxNameLength) {
      throw new SpiffeError('argument_invalid', `resource name is longer than ${maxNameLength}: ${JSON.stringify(name.slice(0, 100))}`)
    }
    if (++count > most) throw tooMany(most)
  }
}

/** @throws {SpiffeError} `argument_invalid` */
export function checkNameCount (count: number, most = maxNames): void {
  if (count > most) throw tooMany(most)
}

function tooMany (most: number): SpiffeError {
  return new SpiffeError('argument_invalid', `more than ${most} resource names on one stream`)
}
