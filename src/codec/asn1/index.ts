/** ASN.1: BER is read, DER is written. Pure. */
export { bitsOf, children, type Element, Fields, numberOf, octetsOf, oidOf, readElement, readWhole, TAG, timeOf } from './ber.js';
export { bitString, bmpString, context, integer, nothing, octetString, oid, sequence, setOf, tlv, utf8String } from './der.js';
