import { isArray, isObject, isSet, type RegoObject, type RegoValue } from '../rego-value.ts'

export interface BuiltinContext {
  /** Nanoseconds since 1970: the time of the decision, the same for all of it. */
  readonly timeNs: bigint
  /** What must come out the same when one decision asks for it again. */
  readonly once: Map<string, RegoValue>
}

/** A function of Rego that the host computes. `undefined`: there is no such value, as where OPA's own has an error. */
export type Builtin = (args: readonly RegoValue[], context: BuiltinContext) => RegoValue | undefined

/** Operands that a builtin has no value for: the expression is undefined, the decision goes on. */
export class NoValue extends Error {}

export function textOf (value: RegoValue | undefined): string {
  if (typeof value !== 'string') throw new NoValue()
  return value
}

export function numberOf (value: RegoValue | undefined): number {
  if (typeof value !== 'number' && typeof value !== 'bigint') throw new NoValue()
  return Number(value)
}

export function integerOf (value: RegoValue | undefined): bigint {
  if (typeof value === 'bigint') return value
  if (typeof value !== 'number' || !Number.isInteger(value)) throw new NoValue()
  return BigInt(value)
}

export function arrayOf (value: RegoValue | undefined): readonly RegoValue[] {
  if (!isArray(value)) throw new NoValue()
  return value
}

export function objectOf (value: RegoValue | undefined): RegoObject {
  if (!isObject(value)) throw new NoValue()
  return value
}

/** The members of an array or a set. */
export function membersOf (value: RegoValue | undefined): readonly RegoValue[] {
  if (isArray(value)) return value
  if (isSet(value)) return [...value]
  throw new NoValue()
}

/** An integer as Rego has it: a double where one can hold it. */
export function toInteger (value: bigint): number | bigint {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value
}
