#include "base64.h"
#include "openmm/OpenMMException.h"

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

static const string BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

string OpenMMKStep::encodeBase64(const string& data) {
    string text;
    for (size_t i = 0; i < data.size(); i += 3) {
        unsigned int bits = 0;
        for (size_t j = i; j < i+3; j++)
            bits = (bits << 8) | (j < data.size() ? (unsigned char) data[j] : 0);
        for (size_t j = 0; j < 4; j++)
            text += (i+j <= data.size() ? BASE64[(bits >> (18-6*j)) & 63] : '=');
    }
    return text;
}

string OpenMMKStep::decodeBase64(const string& text, const string& owner) {
    if (text.size()%4 != 0)
        throw OpenMMException("The model in the XML of a "+owner+" is truncated.");
    string data;
    for (size_t i = 0; i < text.size(); i += 4) {
        unsigned int bits = 0, numBytes = 3;
        for (size_t j = i; j < i+4; j++) {
            size_t value = BASE64.find(text[j]);
            if (value == string::npos) {
                if (text[j] != '=' || i+4 != text.size() || numBytes == 1)
                    throw OpenMMException("The model in the XML of a "+owner+" is corrupt.");
                numBytes--;
                value = 0;
            }
            else if (numBytes < 3)
                throw OpenMMException("The model in the XML of a "+owner+" is corrupt.");
            bits = (bits << 6) | value;
        }
        for (unsigned int j = 0; j < numBytes; j++)
            data += (char) ((bits >> (16-8*j)) & 255);
    }
    return data;
}
