// Takes spans by OTLP over gRPC and writes one line of JSON for each. Of the messages (opentelemetry/proto/trace/v1) it knows what tests
// ask for.
// usage: otlp-collector.mjs <port>
import { Server, ServerCredentials } from '@grpc/grpc-js'
import protobuf from 'protobufjs'

const { root } = protobuf.parse(`
  syntax = "proto3";
  message Export { repeated ResourceSpans resource_spans = 1; }
  message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
  message Resource { repeated KeyValue attributes = 1; }
  message ScopeSpans { repeated Span spans = 2; }
  message Span {
    bytes trace_id = 1; bytes span_id = 2; bytes parent_span_id = 4; string name = 5; int32 kind = 6;
    repeated KeyValue attributes = 9;
  }
  message KeyValue { string key = 1; Value value = 2; }
  message Value { oneof kind { string string = 1; bool bool = 2; int64 int = 3; } }
`)
const Export = root.lookupType('Export')

const fieldsOf = list => Object.fromEntries((list ?? []).map(({ key, value }) => [key, value?.[value.kind]?.toString()]))
const hex = bytes => Buffer.from(bytes ?? []).toString('hex')

const server = new Server()
server.addService({
  export: {
    path: '/opentelemetry.proto.collector.trace.v1.TraceService/Export', requestStream: false, responseStream: false,
    requestDeserialize: bytes => Export.decode(bytes), responseSerialize: () => Buffer.alloc(0)
  }
}, {
  export ({ request }, answer) {
    for (const { resource, scopeSpans } of request.resourceSpans) {
      for (const { traceId, spanId, parentSpanId, name, kind, attributes } of scopeSpans.flatMap(({ spans }) => spans)) {
        const span = {
          trace: hex(traceId), id: hex(spanId), parent: hex(parentSpanId), name, kind, attributes: fieldsOf(attributes),
          service: fieldsOf(resource?.attributes)['service.name']
        }
        process.stdout.write(`${JSON.stringify(span)}\n`)
      }
    }
    answer(null, {})
  }
})
server.bindAsync(`0.0.0.0:${process.argv[2]}`, ServerCredentials.createInsecure(), error => {
  if (error !== null) throw error
  process.stdout.write('ready\n')
})
