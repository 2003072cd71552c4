import { MessageType, type AnyMessageType, type Field, type ScalarType } from '../../wire/message-type.ts'
import type { FieldDescriptor, MessageDescriptor } from './descriptor-types.ts'

const scalarNumbers: { readonly [Name in ScalarType]: number } = {
  double: 1, float: 2, int64: 3, uint64: 4, int32: 5, fixed64: 6, fixed32: 7, bool: 8, string: 9, bytes: 12,
  uint32: 13, sfixed32: 15, sfixed64: 16, sint32: 17, sint64: 18
}
const [messageNumber, enumNumber] = [11, 14]
const [once, repeatedly] = [1, 3]

/** A message's fields, oneofs and map entries; what else is nested in it is the caller's to add. */
export function describeFields (type: AnyMessageType): Pick<MessageDescriptor, 'field' | 'nestedType' | 'oneofDecl'> {
  const entries: MessageDescriptor[] = []
  const groups = [...new Set(type.fields.flatMap(({ oneof }) => oneof ?? []))].map(snakeCase)
  // The presence of an `optional` field is told by a oneof of its own.
  const optionals = type.fields.filter(({ optional }) => optional).map(({ name }) => `_${snakeCase(name)}`)
  const oneofs = [...groups, ...optionals]
  const fields = type.fields.map((field): FieldDescriptor => {
    if (field.presence === 'map') {
      const entry = describeEntry(field)
      entries.push(entry)
      return { ...nameOf(field), label: repeatedly, type: messageNumber, typeName: `.${type.name}.${entry.name}` }
    }
    const group = field.oneof === undefined ? field.optional === true ? `_${snakeCase(field.name)}` : undefined : snakeCase(field.oneof)
    return {
      ...nameOf(field),
      label: field.presence === 'repeated' ? repeatedly : once,
      ...typeOf(field),
      ...group === undefined ? {} : { oneofIndex: oneofs.indexOf(group) },
      ...field.optional === true ? { proto3Optional: true } : {}
    }
  })
  return { field: fields, nestedType: entries, oneofDecl: oneofs.map(name => ({ name })) }
}

function describeEntry (field: Field): MessageDescriptor {
  const name = `${field.name.slice(0, 1).toUpperCase()}${field.name.slice(1)}Entry`
  return {
    name,
    field: [
      { name: 'key', jsonName: 'key', number: 1, label: once, type: scalarNumbers[field.keyType ?? 'string'] },
      { name: 'value', jsonName: 'value', number: 2, label: once, ...typeOf(field) }
    ],
    nestedType: [],
    enumType: [],
    options: { mapEntry: true },
    oneofDecl: []
  }
}

function nameOf (field: Field): Pick<FieldDescriptor, 'name' | 'jsonName' | 'number'> {
  return { name: snakeCase(field.name), jsonName: field.name, number: field.number }
}

function typeOf ({ type }: Field): Pick<FieldDescriptor, 'type' | 'typeName'> {
  if (typeof type === 'string') return { type: scalarNumbers[type] }
  return { type: type instanceof MessageType ? messageNumber : enumNumber, typeName: `.${type.name}` }
}

/** The generator made sure that this leads back to the proto's name. */
function snakeCase (name: string): string {
  return name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)
}
