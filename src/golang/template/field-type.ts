/** What a template can read: a tree of fields by their names in Go, and where each is in what it is given. */
export type FieldType =
  | { readonly kind: 'text' }
  | { readonly kind: 'flag' }
  | { readonly kind: 'number' }
  /** Of texts, by keys that anybody may choose. */
  | { readonly kind: 'map' }
  | { readonly kind: 'list', readonly of: FieldType }
  | { readonly kind: 'record', readonly fields: Readonly<Record<string, Field>> }

export interface Field {
  /** Its name in the data, such as JSON's. */
  readonly json: string
  readonly type: FieldType
  /** Chosen by whoever configures the program, and no part of a foreign object. */
  readonly trusted?: boolean
}
