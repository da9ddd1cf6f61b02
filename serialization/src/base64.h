#ifndef OPENMMKSTEP_BASE64_H_
#define OPENMMKSTEP_BASE64_H_

#include <string>

namespace OpenMMKStep {

/** Bytes as text, for the model files in XML. */
std::string encodeBase64(const std::string& data);
/**
 * The bytes behind a text.
 *
 * @param owner  the class whose XML it is, for error messages
 * @throws OpenMMException if the text is truncated or corrupt
 */
std::string decodeBase64(const std::string& text, const std::string& owner);

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_BASE64_H_*/
