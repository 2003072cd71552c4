import { SpiffeError } from '../../spiffe/errors.ts'
import { type Refusal, refusalOf } from '../refusal.ts'

/** Error codes of the CNI specification, §"Error": up to 99 are its own, from 100 on a plugin's. */
export const cniCode = {
  incompatibleVersion: 1, unknownContainer: 3, invalidEnvironment: 4, decodingFailure: 6, invalidConfiguration: 7, tryAgainLater: 11,
  own: 100
} as const

export class CniError extends Error {
  readonly cniCode: number

  constructor (code: number, message: string) {
    super(message)
    this.cniCode = code
  }
}

/** The agent did not answer, rather than refuse. */
export function isAway ({ code }: Refusal): boolean {
  return ['server_unreachable', 'server_stopping', 'deadline_exceeded', 'cancelled'].includes(code)
}

/** What the plugin prints. @throws whatever is no refusal: a bug */
export function failureOf (error: unknown, cniVersion: string): object {
  if (error instanceof CniError) return { cniVersion, code: error.cniCode, msg: error.message }
  const refusal = refusalOf(error)
  if (refusal === undefined && !(error instanceof SpiffeError)) throw error
  const code = refusal?.code === 'workload_not_found' ? cniCode.unknownContainer
    : refusal?.retry === true ? cniCode.tryAgainLater : cniCode.own
  return {
    cniVersion, code, msg: refusal?.message ?? (error as Error).message, details: `${refusal?.code ?? ''}: ${refusal?.next ?? ''}`
  }
}
