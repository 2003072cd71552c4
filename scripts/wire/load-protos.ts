import { existsSync } from 'node:fs'
import { join } from 'node:path'
import protobuf from 'protobufjs'
import { newerFields, newerMessages } from './outputs.ts'
import { sentFields } from './sent-fields.ts'

const repository = join(import.meta.dirname, '..', '..')
const envoy = join(repository, 'node_modules', '@grpc', 'grpc-js-xds', 'deps')
const roots = [join(repository, 'protos'), ...['envoy-api', 'xds', 'googleapis', 'protoc-gen-validate'].map(name => join(envoy, name)),
  join(repository, 'node_modules', 'protobufjs')]

/** Reads the named protos with all they import, field names as written, and adds what Envoy's tree lacks. */
export function loadProtos (files: readonly string[]): protobuf.Root {
  const root = new protobuf.Root()
  root.resolvePath = (_origin, target) => {
    if (protobuf.common.get(target) !== null) return target
    const found = roots.map(folder => join(folder, target)).find(path => existsSync(path))
    if (found === undefined) throw new Error(`no proto file ${target}`)
    return found
  }
  root.loadSync([...files], { keepCase: true })
  addNewer(root)
  removeUnsent(root)
  root.resolveAll()
  return root
}

function addNewer (root: protobuf.Root): void {
  for (const { parent, name, fields } of newerMessages) {
    const namespace = root.lookup(parent)
    if (!(namespace instanceof protobuf.Namespace)) continue
    const type = new protobuf.Type(name)
    for (const { name, number, type: fieldType } of fields) type.add(new protobuf.Field(name, number, fieldType))
    namespace.add(type)
  }
  for (const { message, name, number, type, rule } of newerFields) {
    const owner = root.lookup(message)
    if (!(owner instanceof protobuf.Type)) continue
    owner.add(rule === 'string-map' ? new protobuf.MapField(name, number, 'string', type) : new protobuf.Field(name, number, type, rule))
  }
}

function removeUnsent (root: protobuf.Root): void {
  for (const [message, sent] of Object.entries(sentFields)) {
    const type = root.lookup(message)
    if (!(type instanceof protobuf.Type)) continue
    const missing = sent.find(name => type.fields[name] === undefined)
    if (missing !== undefined) throw new Error(`${message} has no field ${missing}`)
    for (const field of type.fieldsArray) if (!sent.includes(field.name)) type.remove(field)
  }
}
