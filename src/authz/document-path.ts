/** The part of a document at a path of names; `undefined` where there is none. */
export function documentAt (document: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((value, name) => typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name] : undefined, document)
}
