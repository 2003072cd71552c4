/** Manifests as they are written: anything may stand anywhere, and nothing here throws. */
export type Raw = Readonly<Record<string, unknown>>

export function recordOf (value: unknown): Raw {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value as Raw : {}
}

export function listOf (value: unknown): readonly unknown[] { return Array.isArray(value) ? value : [] }

export function textOf (value: unknown): string { return typeof value === 'string' ? value : '' }

export function textsOf (value: unknown): readonly string[] {
  return listOf(value).filter(item => typeof item === 'string')
}
